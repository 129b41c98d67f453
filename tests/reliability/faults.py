"""What the kill matrix does to a running Airflow. Each fault lasts until all of it runs again.

A fault calls ``release`` while the component is away, unless it says otherwise: whatever is held at its moment then
continues into the outage.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Final

import psutil

from dev.stack import poll

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dev.processes import Program
    from tests.reliability.scene import Scene

    Fault = Callable[[Scene], None]

# How long a frozen server answers nothing, which is longer than a client waits for one response.
FROZEN_SECONDS: Final = 20.0
# Between SIGTERM and SIGKILL, as of a container.
GRACE_SECONDS: Final = 2.0
DRAIN_SECONDS: Final = 180.0


def kill_workers(scene: Scene) -> None:
    """SIGKILL to each task's process and to the process that supervises it."""
    signal_all(busy_workers(scene), signal.SIGKILL)
    scene.release()


def terminate_tasks(scene: Scene) -> None:
    """SIGTERM to each task's process."""
    supervisors = set(scene.busy_supervisors())
    signal_all((each for each in busy_workers(scene) if each not in supervisors), signal.SIGTERM)
    scene.release()


def evict_workers(scene: Scene) -> None:
    """SIGTERM to each task's process and its supervisor, then SIGKILL, as of an evicted pod."""
    evicted = list(busy_workers(scene))
    signal_all(evicted, signal.SIGTERM)
    psutil.wait_procs(evicted, timeout=GRACE_SECONDS)
    signal_all(evicted, signal.SIGKILL)
    scene.release()


def freeze_workers(scene: Scene) -> None:
    """Freeze the processes until Airflow has given them up and a retry runs, then let them continue beside it."""
    frozen = list(busy_workers(scene))
    with suspended(frozen):
        scene.release()
        scene.wait_until_retried()


def terminate_supervisors(scene: Scene) -> None:
    """SIGTERM to the processes that supervise tasks, as of a drained node."""
    signal_all(scene.busy_supervisors(), signal.SIGTERM)
    scene.release()


def kill_scheduler(scene: Scene) -> None:
    """SIGKILL to the scheduler and to all tasks on its machine."""
    _kill(scene, scene.program("scheduler"))


def drain_scheduler(scene: Scene) -> None:
    """SIGTERM; its tasks finish, and it is started when it has ended."""
    _stop(scene, "scheduler")


def replace_scheduler(scene: Scene) -> None:
    """SIGTERM, and another one is started while the first one's tasks still run."""
    _replace(scene, "scheduler")


def freeze_scheduler(scene: Scene) -> None:
    """Freeze the scheduler and its tasks until Airflow calls it unhealthy."""
    with suspended(family(scene.program("scheduler"))):
        scene.release()
        poll(
            lambda: scene.stack.airflow.health().get("scheduler") == "unhealthy",
            seconds=90,
            waiting_for="the scheduler to be missed",
        )


def kill_triggerer(scene: Scene) -> None:
    """SIGKILL; runs that end before the next one starts are noticed by it."""
    _kill(scene, scene.program("triggerer"))


def stop_triggerer(scene: Scene) -> None:
    """SIGTERM; it is started when it has ended."""
    _stop(scene, "triggerer")


def replace_triggerer(scene: Scene) -> None:
    """SIGTERM, and another one runs already."""
    _replace(scene, "triggerer")


def freeze_triggerer(scene: Scene) -> None:
    """Freeze it until another one has taken its triggers and finished them, then let it continue."""
    second = scene.second("triggerer")
    with suspended(family(scene.program("triggerer"))):
        second.start()
        scene.release()
        scene.wait_until_none_is_deferred()
    # One that was given up ends as soon as it notices.
    scene.stack.wait_until_healthy()
    second.stop(seconds=DRAIN_SECONDS)


def kill_control_plane(scene: Scene) -> None:
    """SIGKILL; it comes back with what it had stored."""
    scene.stack.control_plane.kill()
    scene.release(ends=False)
    scene.stack.control_plane.start()


def stop_control_plane(scene: Scene) -> None:
    """SIGTERM; it is started when it has ended."""
    program = scene.stack.control_plane.program
    program.ask_to_stop()
    scene.release(ends=False)
    poll(lambda: program.exited is not None, seconds=60, waiting_for="the control plane to end")
    scene.stack.control_plane.start()


def restart_control_plane(scene: Scene) -> None:
    """Stop and start it; tasks continue when it is back."""
    scene.stack.control_plane.stop()
    scene.stack.control_plane.start()
    scene.release(ends=False)


def freeze_control_plane(scene: Scene) -> None:
    """Let it accept connections and answer nothing for some time."""
    with suspended(family(scene.stack.control_plane.program)):
        scene.release(ends=False)
        time.sleep(FROZEN_SECONDS)


def kill_database(scene: Scene) -> None:
    """SIGKILL to PostgreSQL; components of Airflow that end because of it are started again."""
    _kill(scene, scene.database.program, scene.database.start)


def stop_database(scene: Scene) -> None:
    """A fast shutdown of PostgreSQL (SIGINT, which its service sends), and a start."""
    program = scene.database.program
    assert program.process is not None
    program.process.send_signal(signal.SIGINT)
    scene.release()
    poll(lambda: program.exited is not None, seconds=60, waiting_for="PostgreSQL to end")
    scene.database.start()


def restart_database(scene: Scene) -> None:
    """A fast shutdown and a start; tasks continue when it is back."""
    program = scene.database.program
    assert program.process is not None
    program.process.send_signal(signal.SIGINT)
    poll(lambda: program.exited is not None, seconds=60, waiting_for="PostgreSQL to end")
    scene.database.start()
    scene.release()


def freeze_database(scene: Scene) -> None:
    """Let PostgreSQL answer nothing for some time."""
    with suspended(family(scene.database.program)):
        scene.release()
        time.sleep(FROZEN_SECONDS)


def kill_api_server(scene: Scene) -> None:
    """SIGKILL to the API server, through which tasks and triggers reach Airflow."""
    _kill(scene, scene.program("api-server"))


def stop_api_server(scene: Scene) -> None:
    """SIGTERM; it is started when it has ended."""
    server = scene.program("api-server")
    server.ask_to_stop()
    scene.release()
    server.stop()
    server.start()


def kill_dag_processor(scene: Scene) -> None:
    """SIGKILL to the DAG processor."""
    _kill(scene, scene.program("dag-processor"))


def _kill(scene: Scene, program: Program, start: Callable[[], None] | None = None) -> None:
    program.kill()
    scene.release()
    (start or program.start)()


def _stop(scene: Scene, name: str) -> None:
    program = scene.program(name)
    program.ask_to_stop()
    scene.release()
    poll(lambda: program.exited is not None, seconds=DRAIN_SECONDS, waiting_for=f"the {name} to end")
    program.start()


def _replace(scene: Scene, name: str) -> None:
    second = scene.second(name)
    second.start()
    _stop(scene, name)
    scene.stack.wait_until_healthy()
    second.stop(seconds=DRAIN_SECONDS)


def family(program: Program) -> list[psutil.Process]:
    """Return a program's process and all below it."""
    assert program.process is not None
    parent = psutil.Process(program.process.pid)
    return [parent, *parent.children(recursive=True)]


def busy_workers(scene: Scene) -> Iterator[psutil.Process]:
    """Yield each process that supervises a task, and all below it."""
    for supervisor in scene.busy_supervisors():
        with contextlib.suppress(psutil.NoSuchProcess):
            yield from [supervisor, *supervisor.children(recursive=True)]


def signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to those that still run."""
    for each in list(processes):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)


@contextlib.contextmanager
def suspended(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop the processes without ending them, as if their network was cut: nothing answers, and nothing is closed."""
    signal_all(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(processes, signal.SIGCONT)
