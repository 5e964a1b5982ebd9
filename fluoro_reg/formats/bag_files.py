"""The files of a bag: rosbag2 in sqlite3 or mcap, with or without metadata.yaml, compressed or not, and ROS 1 bags.

People bring what is left of a recording: a single file of it, a folder whose metadata.yaml is missing or wrong, a compressed
file, an old bag. The storage files hold all that is needed. What metadata.yaml states differently is reported. Messages are
decoded with the definitions of sensor_msgs that are the same in all ROS releases, not with those in the bag.
"""

import functools
import heapq
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from fluoro_reg.errors import InputError
from fluoro_reg.formats.bag_metadata import METADATA, metadata_problem, unlisted_files

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MAGIC = {b"SQLite format 3\x00": ".db3", b"\x89MCAP0\r\n": ".mcap", b"#ROSBAG V": ".bag"}
_ZSTD = b"\x28\xb5\x2f\xfd"
_STORAGE_SUFFIXES = (".db3", ".mcap", ".db3.zstd", ".mcap.zstd", ".db3.zst", ".mcap.zst")
_CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


@dataclass(slots=True)
class OpenBag:
    """A bag that is open for reading.

    Attributes:
        name: Name of its file or folder.
        warnings: Sentences for the user about its files.
    """

    name: str
    readers: list[Ros1Reader | Ros2Reader] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def connections(self) -> list[Connection]:
        """Return the connections of all files."""
        return [connection for reader in self.readers for connection in reader.connections]

    def types(self) -> dict[str, set[str]]:
        """Return the message types of each topic."""
        found: dict[str, set[str]] = {}
        for connection in self.connections():
            found.setdefault(connection.topic, set()).add(connection.msgtype)
        return found

    def stated_count(self, topic: str) -> int:
        """Return the number of messages of a topic that the bag states."""
        return sum(connection.msgcount for connection in self.connections() if connection.topic == topic)

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        """Yield (time of recording in ns, message) of a topic; the message is None where it cannot be decoded.

        Raises:
            InputError: A file is damaged from here on.
        """
        streams = []
        for reader in self.readers:
            connections = [connection for connection in reader.connections if connection.topic == topic]
            if connections:
                streams.append(reader.messages(connections=connections))
        merged = heapq.merge(*streams, key=itemgetter(1))
        while True:
            try:
                connection, received_ns, data = next(merged)
            except StopIteration:
                return
            except Exception as error:  # for a damaged file, the storage libraries raise errors of many unrelated classes
                advice = "copy it again; ros2 bag reindex or mcap recover rescues what it holds"
                raise InputError(f"{self.name} is damaged after its first messages; {advice}") from error
            yield received_ns, _decoded(data, connection)


def is_bag(path: Path) -> bool:
    """Whether a path is a folder or has the content of a bag, compressed or not, or the name of one."""
    if path.is_dir() or path.name.endswith((*_STORAGE_SUFFIXES, ".bag", ".bag.active")):
        return True
    return _suffix_by_content(path) is not None


@contextmanager
def open_bag(path: Path) -> Iterator[OpenBag]:
    """Open a bag.

    Raises:
        InputError: There is no bag, or none of its files can be read.
    """
    if not path.exists():
        raise InputError(f"there is no bag at {path.name}; check the path")
    bag = OpenBag(path.name)
    with ExitStack() as stack:
        for file in _files_to_open(path, bag):
            bag.readers.append(_open_reader(file, bag, stack))
        yield bag


def _files_to_open(path: Path, bag: OpenBag) -> list[Path]:
    """Return the folder itself if its metadata.yaml can be used, else the files of the bag."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.name.endswith((*_STORAGE_SUFFIXES, ".bag")))
    problem = metadata_problem(path)
    if problem is None:
        unlisted = unlisted_files(path, files)
        if unlisted:
            bag.warnings.append(f"{path.name} holds {unlisted} more storage files than {METADATA} lists; they are not read")
        return [path]
    if not files:
        raise InputError(
            f"{path.name} is not a bag: it holds no .db3, .mcap or .bag file; give the folder or file of a recording"
        )
    if not all(file.suffix == ".bag" for file in files):
        bag.warnings.append(
            f"{path.name} was read from its {len(files)} storage file{'s' if len(files) > 1 else ''}, because {METADATA} "
            f"{problem}; ros2 bag reindex writes it again"
        )
    return files


def _open_reader(path: Path, bag: OpenBag, stack: ExitStack) -> Ros1Reader | Ros2Reader:
    try:
        file = path if path.is_dir() else _readable_file(path, bag, stack)
        reader: Ros1Reader | Ros2Reader = Ros1Reader(file) if file.suffix == ".bag" and file.is_file() else Ros2Reader(file)
        reader.open()
    except InputError:
        raise
    except Exception as error:  # for a damaged file, the storage libraries raise errors of many unrelated classes
        raise InputError(f"{path.name} cannot be read as a bag: {_reason(path, str(error))}") from error
    stack.callback(reader.close)
    return reader


def _readable_file(path: Path, bag: OpenBag, stack: ExitStack) -> Path:
    """Return the file, or a copy that the reader accepts: decompressed, with its journal, with the suffix of its content."""
    suffix = _suffix_by_content(path)
    journal = path.with_name(f"{path.name}-wal")
    if suffix is None and not _is_compressed(path):
        raise InputError(f"{path.name} cannot be read as a bag: it is damaged, or neither rosbag2 nor a ROS 1 bag")
    if path.suffix == suffix and not (suffix == ".db3" and journal.exists() and journal.stat().st_size):
        return path
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="fluoro_reg_bag_")))
    copy = folder / f"bag{suffix or '.unknown'}"
    if _is_compressed(path):
        with zstd.open(path, "rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target)
    elif journal.exists():
        shutil.copy(path, copy)
        shutil.copy(journal, copy.with_name(f"{copy.name}-wal"))
        sqlite3.connect(copy).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
        bag.warnings.append(f"{path.name} was not closed: the messages in its journal ({journal.name}) were read too")
    else:
        copy.symlink_to(path.resolve())
    return copy


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZSTD)) == _ZSTD


def _suffix_by_content(path: Path) -> str | None:
    """Return the suffix of the storage format that the content shows, also of what is compressed; None if there is none."""
    try:
        with zstd.open(path, "rb") if _is_compressed(path) else path.open("rb") as file:
            head = file.read(16)
    except (OSError, EOFError, zstd.ZstdError):
        return None
    return next((suffix for magic, suffix in _MAGIC.items() if head.startswith(magic)), None)


def _reason(path: Path, error: str) -> str:
    """Return what is wrong and what to do, from the sentence of the library, which is not repeated: it may quote a path."""
    if "not indexed" in error:
        return f"it was not closed and has no index; run rosbag reindex {path.name}"
    if "Bag version" in error:
        return "its version of the ROS 1 format is not supported; run rosbag fix, or convert it with rosbags-convert"
    if "encrypt" in error.lower():
        return "it is encrypted; run rosbag decrypt"
    if "mcap" in path.name:
        return "it is damaged or was not closed; mcap recover rescues what it holds"
    return "it is damaged or truncated; copy it again, or give its .db3, .mcap or .bag file"


def _decoded(data: bytes, connection: Connection) -> Any:
    try:
        if data[: len(_ZSTD)] == _ZSTD:  # messages are compressed one by one, which only metadata.yaml states
            data = zstd.decompress(data)
        if isinstance(connection.owner, Ros1Reader):
            return _as_ros2(_typestore(Stores.ROS1_NOETIC).deserialize_ros1(data, connection.msgtype))
        return _typestore(Stores.ROS2_JAZZY).deserialize_cdr(data, connection.msgtype)
    except Exception:  # a damaged message raises errors of many classes
        return None


@functools.cache
def _typestore(store: Stores) -> Typestore:
    return get_typestore(store)


def _as_ros2(message: Any) -> Any:
    """Return a message of ROS 1 with the field names of ROS 2, in which K, D, R and P are in lower case."""
    if message.__msgtype__ != _CAMERA_INFO:
        return message
    return SimpleNamespace(**{name.lower() if name in "DKRP" else name: value for name, value in vars(message).items()})
