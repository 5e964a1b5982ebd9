"""What the packages below log with Python's `logging` goes to the node's log, and so to the console, files and /rosout."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rclpy.impl.rcutils_logger import RcutilsLogger

PACKAGE = "fluoro_reg"


class NodeLogHandler(logging.Handler):
    """Passes records to a node's logger, which knows the level. Tracebacks, which may quote a path or a header, stay out."""

    def __init__(self, logger: RcutilsLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log the message. Every severity has a line of its own, because rclpy allows a line of code only one."""
        try:
            message = record.getMessage()
            if record.levelno >= logging.ERROR:
                self._logger.error(message)
            elif record.levelno >= logging.WARNING:
                self._logger.warning(message)
            elif record.levelno >= logging.INFO:
                self._logger.info(message)
            else:
                self._logger.debug(message)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say which line of code cannot be logged. `logging` itself would print its arguments, which may name a patient."""
        self._logger.error(f"what {record.module}, line {record.lineno}, says cannot be logged")


@contextmanager
def python_log_in(logger: RcutilsLogger) -> Iterator[None]:
    """Pass what `fluoro_reg` logs to the node's logger within the context."""
    package, handler = logging.getLogger(PACKAGE), NodeLogHandler(logger)
    level = package.level
    package.addHandler(handler)
    package.setLevel(logging.DEBUG)  # the node's logger chooses
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
