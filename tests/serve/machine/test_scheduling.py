"""serve.machine.scheduling: threads run under SCHED_BATCH while runs are shared, unless another policy was chosen."""

import subprocess
import sys
import textwrap

import pytest

from serve.machine.scheduling import BatchScheduling

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these policies")


def run(script: str) -> list[str]:
    """What a process prints that has a thread `other`, `policies`, and a clock in `now`; its policies are its own."""
    start = """
        import os, sys, threading
        from serve.machine.scheduling import BatchScheduling
        now = [100.0]
        ready, over = threading.Event(), threading.Event()
        def policies():
            return sorted({os.sched_getscheduler(int(each)) for each in os.listdir("/proc/self/task")})
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        other = threading.Thread(target=lambda: (ready.set(), over.wait()), daemon=True)
        other.start()
        ready.wait()
    """
    command = [sys.executable, "-c", textwrap.dedent(start) + textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@linux
def test_all_threads_wait_for_their_scheduling_while_runs_are_shared() -> None:
    found = run("""
        scheduling = BatchScheduling(lambda: now[0])
        for seconds, image_count in [(0, 1), (0, 2), (0.5, 1), (0.4, 1), (0.2, 1), (0, 1), (0, 32)]:
            now[0] += seconds
            scheduling.note_run(image_count)
            print(policies() == [os.SCHED_BATCH], policies() == [os.SCHED_OTHER])
    """)
    waits, usual = "True False", "False True"
    assert found == [usual, waits, waits, waits, usual, usual, waits]


@linux
def test_the_event_loop_does_not_wait_beside_runs_in_a_thread() -> None:
    """It would refuse late. In a run it makes itself, it waits as all do, once no other was made for a while."""
    found = run("""
        scheduling = BatchScheduling(lambda: now[0])
        def run_in_thread(image_count):
            thread = threading.Thread(target=scheduling.note_run, args=(image_count,))
            thread.start()
            thread.join()
        for seconds, note, image_count in [
            (0, scheduling.note_run, 8), (0.1, run_in_thread, 1), (0.5, scheduling.note_run, 8),
            (0.6, scheduling.note_run, 8),
            (0.1, run_in_thread, 8), (1.1, run_in_thread, 1),
        ]:
            now[0] += seconds
            note(image_count)
            loop_waits = os.sched_getscheduler(os.getpid()) == os.SCHED_BATCH
            print(loop_waits, os.sched_getscheduler(other.native_id) == os.SCHED_BATCH)
    """)
    all_wait, others_wait, none = "True True", "False True", "False False"
    assert found == [all_wait, others_wait, others_wait, all_wait, others_wait, none]


@linux
def test_a_thread_that_starts_meanwhile_waits_too() -> None:
    found = run("""
        scheduling = BatchScheduling(lambda: now[0])
        scheduling.note_run(8)
        threading.Thread(target=over.wait, daemon=True).start()
        print(policies() == [os.SCHED_BATCH])
    """)
    assert found == ["True"]


@linux
def test_a_policy_that_somebody_chose_is_kept() -> None:
    found = run("""
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        before = policies()
        BatchScheduling(lambda: now[0]).note_run(8)
        print(policies() == before, len(before))
    """)
    assert found == ["True 2"]


def test_a_run_costs_nothing_where_the_kernel_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is followed: the kernel is asked when something changes."""
    asked: list[bool] = []
    monkeypatch.setattr("serve.machine.scheduling._list_threads", lambda: [1])
    monkeypatch.setattr("serve.machine.scheduling._set_policy", lambda thread, waits: asked.append(waits))
    now_s = [0.0]
    scheduling = BatchScheduling(lambda: now_s[0])
    scheduling._is_ours = True
    for image_count in (1, 1, 8, 8, 8):
        scheduling.note_run(image_count)
    now_s[0] += BatchScheduling.HOLD_S
    for _ in range(3):
        scheduling.note_run(1)
    assert asked == [True, False]


@linux
@pytest.mark.parametrize(("niceness", "behind"), [(0, 5), (10, 15), (17, 19)])
def test_a_thread_that_runs_batches_is_behind_the_event_loop_of_any_process(niceness: int, behind: int) -> None:
    """Also of one that was started with a niceness, and however often the thread is put there."""
    script = f"""
        from serve.machine.scheduling import lower_thread_priority
        def lower():
            lower_thread_priority()
            lower_thread_priority()
            print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        os.setpriority(os.PRIO_PROCESS, 0, max({niceness}, os.getpriority(os.PRIO_PROCESS, 0)))
        thread = threading.Thread(target=lower)
        thread.start()
        thread.join()
        print(os.getpriority(os.PRIO_PROCESS, 0))
    """
    found, loop = map(int, run(script))
    assert found == (behind if loop == niceness else min(loop + 5, 19))
