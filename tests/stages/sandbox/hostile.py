"""Programs that try to get out, to pass without being right, or to use up the machine."""

BODY = {  # body of `def f(x)`, called as f(1), which ought to give 2
    "read_passwd": "return open('/etc/passwd').read()",
    "read_home": "import os; return os.listdir('/root')",
    "read_proc": "return open('/proc/self/environ').read()",
    "list_proc": "import os; return os.listdir('/proc')",
    "write_root": "open('/escaped', 'w').write('x'); return 2",
    "write_tmp": "open('/tmp/escaped', 'w').write('x'); return 2",
    "write_library": "import os; open(os.__file__, 'a').write('x'); return 2",
    "remove_library": "import os, shutil; shutil.rmtree(os.path.dirname(os.__file__)); return 2",
    "fork": "import os; os.fork(); return 2",
    "fork_bomb": "import os\n    while True: os.fork()",
    "fork_syscall": "import ctypes; return 2 if ctypes.CDLL(None).fork() >= 0 else 3",
    "vfork": "import ctypes; return 2 if ctypes.CDLL(None, use_errno=True).syscall(58) >= 0 else 3",
    "clone": "import ctypes; return 2 if ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0) >= 0 else 3",
    "clone3": "import ctypes; return 2 if ctypes.CDLL(None).syscall(435, 0, 88) >= 0 else 3",
    "subprocess": "import subprocess; subprocess.run(['/bin/true'], check=True); return 2",
    "system": "import os; return os.system('true') + 2 or 2",
    "execve": "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'print(2)'])",
    "shell_library": "import os; os.execv('/lib64/ld-linux-x86-64.so.2', ['ld', '/bin/true'])",
    "multiprocessing": "import multiprocessing as m\n    with m.Pool(2) as p: return p.map(abs, [2])[0]",
    "threads": (
        "import threading, time\n"
        "    for _ in range(10**6): threading.Thread(target=time.sleep, args=(99,)).start()"
    ),
    "endless": "while True: pass",
    "endless_sleep": "import time; time.sleep(10**6)",
    "endless_regex": "import re; return re.match('(a+)+$', 'a' * 60 + 'b')",
    "endless_power": "return 9 ** 9 ** 9",
    "huge_list": "return [0] * 10**10",
    "huge_text": "return 'x' * 10**11",
    "growing_list": "a = [1]\n    while True: a += a",
    "growing_dict": "d = {}\n    i = 0\n    while True: i += 1; d[i] = str(i) * 100",
    "recursion": "return f(x)",
    "deep_recursion": "import sys; sys.setrecursionlimit(10**9); return f(x)",
    "nested_answer": "a = []\n    for _ in range(10**5): a = [a]\n    return a",
    "cyclic_answer": "a = []; a.append(a); return a",
    "endless_answer": "import itertools; return itertools.count()",
    "much_output": "while True: print('x' * 10**6)",
    "fill_scratch": "f = open('big', 'wb')\n    while True: f.write(bytes(10**6)); f.flush()",
    "many_files": "i = 0\n    while True: open(f'f{i}', 'w').close(); i += 1",
    "many_descriptors": "a = []\n    while True: a.append(open('/dev/zero'))",
    "shared_memory": (
        "import ctypes; return 2 if ctypes.CDLL(None).syscall(29, 0, 1 << 30, 0o1777) >= 0 else 3"
    ),
    "kill_parent": (
        "import os, signal; os.kill(os.getppid(), signal.SIGKILL); return 2 if os.getppid() else 3"
    ),
    "kill_group": "import os, signal; os.killpg(0, signal.SIGKILL); return 2",
    "kill_all": "import os, signal; os.kill(-1, signal.SIGKILL); return 3",
    "kill_self": "import os, signal; os.kill(os.getpid(), signal.SIGKILL); return 3",
    "exit": "import sys; sys.exit(0)",
    "quick_exit": "import os; os._exit(0)",
    "raise_exit": "raise SystemExit(0)",
    "abort": "import os; os.abort()",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "stop": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP); return 3",
    "socket": "import socket; socket.create_connection(('1.1.1.1', 80), 2); return 2",
    "dns": "import socket; return socket.gethostbyname('localhost') and 2",
    "http": "import urllib.request as u; return u.urlopen('http://127.0.0.1:8265').status and 2",
    "unix_socket": "import socket; socket.socket(socket.AF_UNIX); return 2",
    "mount": (
        "import ctypes; "
        "return 2 if ctypes.CDLL(None).mount(b'tmpfs', b'/scratch', b'tmpfs', 0, b'') >= 0 else 3"
    ),
    "unshare": "import ctypes; return 2 if ctypes.CDLL(None).unshare(0x10000000) >= 0 else 3",
    "chroot": "import os; os.chroot('/scratch'); return 2",
    "setuid": "import os; os.setuid(1000); return 2",
    "ptrace": "import ctypes; return 2 if ctypes.CDLL(None).ptrace(16, 1, 0, 0) >= 0 else 3",
    "raise_limits": "import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 40, 1 << 40)); return 2",
    "reboot": "import ctypes; return 2 if ctypes.CDLL(None).reboot(0x1234567) >= 0 else 3",
    "device": "import os; os.mknod('disk', 0o60600, os.makedev(8, 0)); return 2",
    "environment": "import os; return 2 if any('KEY' in k or 'HOME' in k for k in os.environ) else 3",
    "bpf": "import ctypes; return 2 if ctypes.CDLL(None).syscall(321, 0, 0, 0) >= 0 else 3",
    "io_uring": "import ctypes; return 2 if ctypes.CDLL(None).syscall(425, 1, 0) >= 0 else 3",
    "equals_all": "return type('E', (), {'__eq__': lambda s, o: True})()",
    "int_equals_all": "return type('I', (int,), {'__eq__': lambda s, o: True, '__hash__': int.__hash__})(3)",
    "text_equals_all": (
        "return type('S', (str,), {'__eq__': lambda s, o: True, '__str__': lambda s: '2'})('3')"
    ),
    "list_equals_all": "return type('L', (list,), {'__eq__': lambda s, o: True})()",
    "raise_assertion": "raise AssertionError",
    "raise_own": "raise type('Passed', (BaseException,), {})()",
}

MODULE = {  # whole programs
    "exit_at_import": "import sys; sys.exit(0)",
    "quick_exit_at_import": "import os; os._exit(0)",
    "patch_builtins": "import builtins\nbuiltins.abs = builtins.len = lambda *a: 2\ndef f(x): return 3",
    "define_assert_helpers": "def same(a, b): return True\ndef check(c): pass\ndef f(x): return 3",
    "patch_harness": (
        "import sys\nfor m in list(sys.modules.values()):\n"
        "    for n in ('run_asserts', 'Cases', 'Case', 'send', 'encode'):\n"
        "        if hasattr(m, n): setattr(m, n, lambda *a, **k: {'passed': 9, 'total': 9})\n"
        "def f(x): return 3"
    ),
    "patch_frames": (
        "import sys\nf_ = sys._getframe()\nwhile f_:\n"
        "    f_.f_locals.update(passed=9, total=9); f_.f_globals.update(passed=9); f_ = f_.f_back\n"
        "def f(x): return 3"
    ),
    "forge_report": (
        "import os\nfor n in range(64):\n"
        '    try: os.write(n, b\'\\0{"passed": 1, "total": 1, "error": ""}\')\n'
        "    except OSError: pass\ndef f(x): return 3"
    ),
    "at_exit": "import atexit, os\natexit.register(lambda: os._exit(0))\ndef f(x): return 3",
    "no_definition": "x = 1",
    "syntax_error": "def f(x) return 2",
    "null_bytes": "def f(x): return 2\0",
    "not_text": "\ud800def f(x): return 2",
    "not_callable": "f = 2",
    "deep_source": "f = " + "(" * 100_000 + ")" * 100_000,
}

PROGRAMS = {name: f"def f(x):\n    {body}\n" for name, body in BODY.items()} | MODULE
