"""The exit status of `fluoro-reg`."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """Exit status for shells and calling programs.

    70 is EX_SOFTWARE of sysexits.h. 130 and 141 are the shell's 128 + signal number for SIGINT and SIGPIPE.
    """

    ACCEPTED = 0  # done; the result, if it is assessed, is accepted
    REJECTED = 1  # ran, but rejected its own result
    UNUSABLE = 2  # unusable input or arguments: one sentence on standard error, nothing on standard output
    FAULT = 70  # a bug in the program
    INTERRUPTED = 130  # Ctrl-C
    BROKEN_PIPE = 141  # the reader of standard output has closed it
