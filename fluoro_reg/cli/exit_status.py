"""The exit status of `fluoro-reg`, for shells and for programs that call it."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """What the shell sees; the numbers above 2 follow sysexits.h and the shell's 128 + signal."""

    ACCEPTED = 0  # done, and the result is accepted where there is one to judge
    REJECTED = 1  # ran, but rejected its own result
    UNUSABLE = 2  # unusable input or arguments: one sentence on standard error, nothing on standard output
    FAULT = 70  # a fault of the program itself
    INTERRUPTED = 130  # Ctrl-C
    BROKEN_PIPE = 141  # the reader of standard output has gone
