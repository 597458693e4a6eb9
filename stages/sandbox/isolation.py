"""The kernel's means against a hostile program, through libc: namespaces, mounts, limits, seccomp.

Uses the standard library alone, since it runs in the sandbox's own process (server.py). Linux on x86_64 and
aarch64.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from collections.abc import Mapping, Sequence

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER = 0x20000, 0x4000000, 0x8000000, 0x10000000
NEW_PIDS, NEW_NETWORK = 0x20000000, 0x40000000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH = 2
_NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 4, 22, 24
_PR_SET_NO_NEW_PRIVS = 38
_FILTER_MODE = 2
_CAPABILITIES_V3, _LAST_CAPABILITY = 0x20080522, 40

# Denied system calls as (x86_64, aarch64) numbers; None where the architecture has none. New processes and
# programs are among them: a solution needs none, and they are what a fork bomb is made of.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "reboot": (169, 142),
    "personality": (135, 92),
}
_CLONE = (56, 220)
_CLONE3 = 435
_CLONE_THREAD = 0x10000
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_libc = ctypes.CDLL(None, use_errno=True)


def supported() -> bool:
    """Tell whether this is a Linux whose system calls are known here."""
    return platform.system() == "Linux" and platform.machine() in _ARCHITECTURES


def unshare(flags: int) -> None:
    """Move this process into new namespaces. Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def enter(namespace: int) -> None:
    """Enter the namespace of an open file descriptor. Raises OSError."""
    _check(_libc.setns(namespace, 0), "setns")


def new_user() -> None:
    """Enter a user namespace: root inside, an ordinary user outside, which is nobody if this is root.

    As nobody, a program can neither read root's files nor escape the limit on processes, which root has not.
    Raises OSError.
    """
    process, user, group = os.getpid(), os.getuid(), os.getgid()
    if user:
        unshare(NEW_USER)
        _map_ids(process, user, group)
        return
    # Only a process outside may give the namespace another user than its own.
    begin, go = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go)
        os.read(begin, 1)
        try:
            _map_ids(process, _NOBODY, _NOBODY)
        except OSError:
            os._exit(1)
        os._exit(0)
    os.close(begin)
    try:
        unshare(NEW_USER)
    finally:
        os.close(go)
        _, status = os.waitpid(helper, 0)
    if status:
        raise OSError(errno.EPERM, "the user namespace cannot be given a user")


def become_inside() -> None:
    """Take the identity that the namespace gives; until then, files are opened with the former one.

    From here on, this process ends with its parent.
    """
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def _map_ids(process: int, user: int, group: int) -> None:
    for name, value in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
        with open(f"/proc/{process}/{name}", "w") as file:
            file.write(value)


def new_root(
    root: str, visible: Mapping[str, int], devices: Sequence[str] = ("null", "zero", "urandom")
) -> None:
    """Make a file system of nothing but the `visible` folders the root of this mount namespace.

    `visible` maps paths to open descriptors of what appears there, read-only; `root` is an existing folder.
    Raises OSError.
    """
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", root, "tmpfs", _NO_SUID | _NO_DEVICES, "size=1m,mode=755")
    for path, descriptor in visible.items():
        _bind(f"/proc/self/fd/{descriptor}", root + path, _READ_ONLY | _NO_SUID | _NO_DEVICES)
        os.close(descriptor)
    for device in devices:
        _bind(f"/dev/{device}", f"{root}/dev/{device}", _NO_SUID)
    for folder in ("scratch", "old"):
        os.mkdir(f"{root}/{folder}")
    _mount(None, root, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEVICES)
    os.chdir(root)
    number = {"x86_64": 155, "aarch64": 41}[platform.machine()]
    _check(_libc.syscall(number, b".", b"old"), "pivot_root")
    os.chdir("/")
    _check(_libc.umount2(b"/old", _DETACH), "umount2")


def new_scratch(mib: int) -> None:
    """Mount an empty folder of `mib` MiB at /scratch, in a mount namespace of its own, and go there."""
    unshare(NEW_MOUNTS)
    _mount("tmpfs", "/scratch", "tmpfs", _NO_SUID | _NO_DEVICES, f"size={mib}m,nr_inodes=4096,mode=777")
    os.chdir("/scratch")


def lock_down(seconds: int, memory: int) -> None:
    """Give up every right to get out: capabilities, system calls, and resources beyond the limits.

    `seconds` of CPU time, `memory` bytes of address space.
    """
    limits = (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 64 << 20),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, 64),
        (resource.RLIMIT_CORE, 0),
    )
    for limit, value in limits:
        resource.setrlimit(limit, (value, value))
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    header, none = struct.pack("=Ii", _CAPABILITIES_V3, 0), bytes(24)
    _check(_libc.capset(header, none), "capset")
    _check(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    _deny_system_calls()


def _deny_system_calls() -> None:
    index, architecture = _ARCHITECTURES[platform.machine()]
    program = _filter(index, architecture)
    length = len(program) // 8
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    fprog = Program(length, ctypes.cast(buffer, ctypes.c_void_p))
    _check(_libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(fprog), 0, 0), "seccomp")


def _filter(index: int, architecture: int) -> bytes:
    """Return the BPF program: each denied call fails with EPERM, a clone that makes a process as well, and
    another architecture's calls kill.
    """
    load, equal, set_, at_least, give = 0x20, 0x15, 0x45, 0x35, 0x06
    allow, kill, deny = 0x7FFF0000, 0x80000000, 0x00050000 | errno.EPERM
    number, arch, argument = 0, 4, 16  # offsets in struct seccomp_data

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    steps = [step(load, arch), step(equal, architecture, 1, 0), step(give, kill), step(load, number)]
    steps += [step(at_least, 0x40000000, 0, 1), step(give, kill)]  # the x32 calls of x86_64
    for numbers in _DENIED.values():
        if (denied := numbers[index]) is not None:
            steps += [step(equal, denied, 0, 1), step(give, deny)]
    steps += [step(equal, _CLONE3, 0, 1), step(give, 0x00050000 | errno.ENOSYS)]  # glibc falls back to clone
    steps += [step(equal, _CLONE[index], 0, 3), step(load, argument)]
    steps += [step(set_, _CLONE_THREAD, 1, 0), step(give, deny)]
    return b"".join([*steps, step(give, allow)])


def _bind(source: str, target: str, flags: int) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    _mount(source, target, None, _BIND | _RECURSIVE)
    _mount(None, target, None, _BIND | _REMOUNT | flags)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    _check(_libc.mount(*encoded, ctypes.c_ulong(flags), data.encode()), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
