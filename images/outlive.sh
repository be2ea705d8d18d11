#!/bin/sh
# Run a command and, after SIGTERM, wait for all its child processes before the container ends.
#
# KFP runs a step as a child of a shell. On SIGTERM that shell exits at once; if the container ended with it, the step
# would be killed before it has saved its state. The sender of the signal sets the limit, with SIGKILL.
stopping=
trap 'stopping=yes' TERM INT
"$@"
status=$?
# Two processes are not the command's: tini, and this shell.
while set -- /proc/[0-9]*; [ -n "$stopping" ] && [ $# -gt 2 ]; do
    sleep 0.1
done
exit "$status"
