import subprocess
import sys

import pytest

from engine.memory import give_back, resident_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="the system says nothing of memory")
def test_what_is_free_is_given_back() -> None:
    pieces = [bytes(4096) for _ in range(50_000)]
    held = resident_bytes()
    kept = pieces[::1000]
    del pieces
    give_back()
    after = resident_bytes()
    assert held is not None and after is not None and len(kept) == 50
    assert held - after > 100 << 20


HEAPS = """
import ctypes, sys, threading
from engine.memory import share_one_heap

if sys.argv[1:]:
    share_one_heap()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
barrier = threading.Barrier(4)

def allocate() -> None:
    held = bytes(4096)
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w")))
libc.fflush(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="heaps are counted as glibc does")
def test_threads_share_one_heap() -> None:
    def num_heaps(*arguments: str) -> int:
        run = subprocess.run([sys.executable, "-c", HEAPS, *arguments], capture_output=True, text=True, check=True)
        return run.stdout.count("<heap nr=")

    assert num_heaps("shared") == 1 < num_heaps()
