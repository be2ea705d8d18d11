"""The gate's checks, each in a module with the name that it has on the page.

Each module has one function, ``check(findings, measurements) -> Check``. A check that cannot be made fails.
"""
