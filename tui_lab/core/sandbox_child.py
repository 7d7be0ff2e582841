"""The child process of :mod:`tui_lab.core.sandbox`: a script that needs the standard library alone. It reads
a program from stdin, gives up what the program must not do, runs it, and writes the token and what guarded it
to stdout.

On Linux the kernel refuses: Landlock opens files outside the present folder for reading only, and only those
of Python; seccomp refuses sockets, other programs, processes and signals. Elsewhere an audit hook of Python
refuses the same, which keeps out what happens by mistake, not what is written against it."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys
from pathlib import Path

PERMISSION, NO_SUCH_CALL = 1, 38
#: By machine: its audit number; the numbers of clone and clone3; the system calls that are refused.
_CALLS: dict[str, tuple[int, int, int, str]] = {
    "x86_64": (
        0xC000003E, 56, 435,
        # socket fork vfork execve kill truncate chmod fchmod chown fchown lchown ptrace shmget utime
        "41 57 58 59 62 76 90 91 92 93 94 101 29 132 "
        # mount setxattr… removexattr… tkill utimes tgkill fchownat fchmodat unshare utimensat prlimit64 setns
        "165 188 189 190 197 198 199 200 235 234 260 268 272 280 302 308 "
        # process_vm_readv process_vm_writev bpf execveat pidfd_send_signal io_uring pidfd_getfd fchmodat2
        "310 311 321 322 424 425 438 452",
    ),
    "aarch64": (
        0xC00000B7, 220, 435,
        # socket execve kill truncate fchmod fchmodat fchownat fchown ptrace shmget mount …xattr…
        "198 221 129 45 52 53 54 55 117 194 40 5 6 7 14 15 16 "
        # tkill tgkill utimensat unshare prlimit64 setns process_vm_readv process_vm_writev bpf execveat …
        "130 131 88 97 261 268 270 271 280 281 424 425 438 452",
    ),
}  # fmt: skip
_CLONE_THREAD = 0x10000
#: Landlock's rights: execute, write, read a file, read a folder; then remove, make, refer, truncate.
_EXECUTE, _WRITE, _READ, _LIST = 1, 2, 4, 8
_TRUNCATE, _REFER = 1 << 14, 1 << 13
_RULESET, _RULE, _RESTRICT = 444, 445, 446  # the same numbers on every machine

#: Beginnings of audit events: what is refused, and what is refused outside the folder.
_HOOKED: tuple[str, ...] = (
    "ctypes.", "os.exec", "os.fork", "os.kill", "os.posix_spawn", "os.spawn", "os.startfile", "os.system",
    "pty.", "resource.", "signal.pthread_kill", "socket.", "subprocess.",
)  # fmt: skip
_CHANGES: tuple[str, ...] = (
    "os.ch", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.setxattr", "os.symlink",
    "os.truncate", "os.utime", "shutil.rmtree",
)  # fmt: skip


def limit(cpu_s: int, memory_bytes: int, file_bytes: int) -> None:
    """Limits of this process."""
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: file_bytes,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
    }
    for name, value in limits.items():
        try:
            resource.setrlimit(name, (value, value))
        except (ValueError, OSError):  # macOS does not limit the address space
            continue


def use_kernel() -> bool:
    """Asks the kernel to guard this process; whether it does."""
    libc = ctypes.CDLL(None, use_errno=True)
    machine = _CALLS.get(platform.machine())
    if sys.platform != "linux" or machine is None or sys.maxsize < 2**32:
        return False
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        return False
    return _landlock(libc) and _seccomp(libc, *machine)


def _landlock(libc: ctypes.CDLL) -> bool:
    version = libc.syscall(_RULESET, None, 0, 1)
    if version < 1:
        return False
    everything = (1 << 13) - 1 | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attribute = ctypes.create_string_buffer(struct.pack("Q", everything), 8)
    ruleset = libc.syscall(_RULESET, attribute, 8, 0)
    if ruleset < 0:
        return False
    readable = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, "/usr", "/lib", "/lib64", "/etc"}
    rules = [(path, _READ | _LIST | _EXECUTE) for path in readable if Path(path).is_dir()]
    rules += [("/dev/null", _READ | _WRITE), ("/dev/urandom", _READ), (".", everything)]
    for path, rights in rules:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor), 12)
        if libc.syscall(_RULE, ruleset, 1, rule, 0):
            return False
        os.close(descriptor)
    restricted: int = libc.syscall(_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return restricted == 0


def _seccomp(libc: ctypes.CDLL, audit: int, clone: int, clone3: int, refused: str) -> bool:
    load, equal, at_least, any_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, error = 0x7FFF0000, 0x50000
    program = [(load, 0, 0, 4), (equal, 1, 0, audit), (give, 0, 0, error | PERMISSION)]
    program += [(load, 0, 0, 0), (at_least, 0, 1, 1 << 30), (give, 0, 0, error | PERMISSION)]  # x32
    for number in map(int, refused.split()):
        program += [(equal, 0, 1, number), (give, 0, 0, error | PERMISSION)]
    # clone3 does not exist, so that the C library takes clone, whose flags can be read: threads are allowed
    program += [(equal, 0, 1, clone3), (give, 0, 0, error | NO_SUCH_CALL)]
    program += [(equal, 1, 0, clone), (give, 0, 0, allow), (load, 0, 0, 16)]
    program += [(any_bit, 0, 1, _CLONE_THREAD), (give, 0, 0, allow), (give, 0, 0, error | PERMISSION)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    return bool(libc.prctl(22, 2, header, 0, 0) == 0)  # PR_SET_SECCOMP, a filter


def use_audit_hook() -> None:
    """Refuses the same in Python."""
    folder = os.path.realpath(".")

    def outside(path: object) -> bool:
        if isinstance(path, int) or path is None:
            return False
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return os.path.commonpath([folder, os.path.realpath(text)]) != folder

    def hook(event: str, args: tuple[object, ...]) -> None:
        refused = event.startswith(_HOOKED) and event != "socket.__new__"
        if event == "open":
            mode, flags = args[1], args[2]
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            refused = bool(writes or (isinstance(mode, str) and set(mode) & set("wax+"))) and outside(args[0])
        elif event.startswith(_CHANGES):
            refused = any(outside(path) for path in args[:2] if isinstance(path, str | bytes | os.PathLike))
        if refused:
            raise PermissionError(PERMISSION, f"{event} is refused here")

    sys.addaudithook(hook)


def main() -> None:
    """Runs the program that stdin has."""
    request = json.loads(sys.stdin.buffer.read())
    answer = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    limit(request["cpu_s"], request["memory_bytes"], request["file_bytes"])
    guard = "kernel" if request["guard"] != "hook" and use_kernel() else "hook"
    if guard == "hook":
        use_audit_hook()
    write = os.write
    write(answer, f"{guard} ".encode())
    passed, failed = f"{request['token']} passed".encode(), f"{request['token']} ".encode()
    try:
        code = compile(request["program"], "answer.py", "exec")
        exec(code, {"__name__": "answer"})
    except BaseException as error:  # noqa: BLE001  it may raise anything
        write(answer, failed + f"{type(error).__name__}: {error}"[:400].encode("utf-8", "replace"))
    else:
        write(answer, passed)
    os._exit(0)


if __name__ == "__main__":
    main()
