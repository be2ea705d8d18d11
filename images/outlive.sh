#!/bin/sh
# Run a command and, once the container has been told to stop, wait for all that it started.
#
# KFP runs a step as a child of a shell. On SIGTERM that shell dies at once; were the container to end with it, the
# step would be killed before it has put anything in order. Whoever sent the signal sets the limit, by SIGKILL.
stopping=
trap 'stopping=yes' TERM INT
"$@"
status=$?
# Of the processes, 1 is tini, and one is this shell.
while set -- /proc/[0-9]*; [ -n "$stopping" ] && [ $# -gt 2 ]; do
    sleep 0.1
done
exit "$status"
