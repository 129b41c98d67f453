"""Change the client's pure core a little, again and again, and see whether its tests notice.

Works on a copy below .cache, so that the checkout stays as it is. Give names of modules to try only those:
python -m dev.mutation _wire.sse durations
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from dev.processes import leave_nothing_running

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".cache" / "mutation-tools"
EXPLAINED = Path(__file__).with_name("mutation_survivors.txt")
AT_LEAST = 0.85

# Values computed while the module is imported: each change needs a process that has not imported it before.
AT_IMPORT = {"_wire.endpoints"}

# The import takes longer than the tests from which the time limit is computed.
FRESH = "process_isolation = forkserver\nforkserver_warmup = none\ntimeout_constant = 30.0\n"

# Finding the simplest example of a failure takes minutes, and is not needed here.
PROFILE = """

import hypothesis

hypothesis.settings.register_profile(
    "mutation", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate], database=None, derandomize=True
)
hypothesis.settings.load_profile("mutation")
"""

# Module of the client -> the tests that must notice. Nothing here opens a connection of its own accord.
MODULES = {
    "_wire.sse": ["wire/test_sse"],
    "_wire.endpoints": ["wire/test_endpoints"],
    "_waiting.scheduler": [
        "waiting/test_scheduler",
        "waiting/test_scheduler_responses",
        "waiting/test_failures",
        "waiting/test_poll_queue",
    ],
    "_waiting.ended_lists": ["waiting/test_ended_lists"],
    "_waiting.run_poller": ["waiting/test_run_poller", "waiting/test_scheduler"],
    "_waiting.poll_queue": ["waiting/test_poll_queue", "waiting/test_scheduler"],
    "_waiting.token_poller": ["waiting/test_token_poller", "waiting/test_scheduler"],
    "_waiting.pacing": ["waiting/test_pacing", "waiting/test_scheduler"],
    "_waiting.stream_slots": ["waiting/test_stream_slots"],
    "_waiting.wait_log": ["waiting/test_wait_log"],
    "_waiting.failures": ["waiting/test_failures"],
    "_retry": ["test_retry"],
    "_idempotency": ["test_idempotency"],
    "durations": ["test_durations"],
}


@leave_nothing_running()
def main(wanted: list[str]) -> int:
    unknown = set(wanted) - set(MODULES)
    if unknown:
        sys.exit(f"not among the modules of the pure core: {', '.join(sorted(unknown))}")
    if not TOOLS.is_dir():
        install_tools()
    verdicts: dict[str, dict[str, str]] = {}
    for module in wanted or MODULES:
        with tempfile.TemporaryDirectory(dir=TOOLS.parent, prefix="mutation-") as folder:
            verdicts[module] = try_module(module, Path(folder))
    return report(verdicts)


def install_tools() -> None:
    requirements = ROOT / "dev" / "requirements" / "mutation.in"
    command = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--python", sys.executable]
    subprocess.run([*command, "--target", str(TOOLS), "--requirement", str(requirements)], check=True)


def try_module(module: str, copy: Path) -> dict[str, str]:
    """Give the verdict on each change of one module.

    :param copy: an empty folder to work in.
    """
    (copy / "tests").mkdir()
    bytecode = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "helmr_provider", copy / "helmr_provider", ignore=bytecode)
    for part in ("client", "support"):
        shutil.copytree(ROOT / "tests" / part, copy / "tests" / part, ignore=bytecode)
    (copy / "contract").symlink_to(ROOT / "contract")
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copyfile(ROOT / file, copy / file)
    with (copy / "tests" / "conftest.py").open("a") as conftest:
        conftest.write(PROFILE)
    paths = [f"tests/client/{name}.py" for name in MODULES[module]]
    tests = "\n    ".join(path for path in paths if (ROOT / path).exists())
    (copy / "setup.cfg").write_text(
        "[mutmut]\n"
        "source_paths = helmr_provider\n"
        f"only_mutate = helmr_provider/client/{module.replace('.', '/')}.py\n"
        f"pytest_add_cli_args_test_selection =\n    {tests}\n"
        "pytest_add_cli_args =\n    -p\n    no:cacheprovider\n"
        "use_git_change_detection = false\n" + (FRESH if module in AT_IMPORT else "")
    )
    environment = os.environ | {"PYTHONPATH": str(TOOLS)}
    command = [sys.executable, "-m", "mutmut"]
    done = subprocess.run([*command, "run"], cwd=copy, env=environment, capture_output=True, text=True, check=False)
    listed = subprocess.run(
        [*command, "results", "--all", "true"], cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    found = dict(
        re.findall(rf"^\s+helmr_provider\.client\.{re.escape(module)}\.(\S+): (.+)$", listed.stdout, re.MULTILINE)
    )
    if not found:
        sys.exit(f"{module}: nothing was tried.\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    for name, verdict in found.items():
        if verdict not in {"killed", "timeout"}:
            full = f"helmr_provider.client.{module}.{name}"
            shown = subprocess.run(
                [*command, "show", full], cwd=copy, env=environment, capture_output=True, text=True, check=False
            )
            print(f"--- {module}.{name}: {verdict}\n{changed_lines(shown.stdout)}", flush=True)
    print(f"{module}: {Counter(found.values())}", flush=True)
    return found


def changed_lines(diff: str) -> str:
    return "\n".join(line for line in diff.splitlines() if line[:1] in "+-" and line[:3] not in {"+++", "---"})


def report(verdicts: dict[str, dict[str, str]]) -> int:
    enough = True
    print(f"{'module':<24}{'changes':>8}{'noticed':>9}{'rate':>7}")
    for module, found in verdicts.items():
        noticed = sum(verdict in {"killed", "timeout"} for verdict in found.values())
        rate = noticed / len(found)
        enough = enough and rate >= AT_LEAST
        print(f"{module:<24}{len(found):>8}{noticed:>9}{rate:>7.0%}")
    print(f"at least {AT_LEAST:.0%} of each must be noticed; {EXPLAINED.relative_to(ROOT)} explains the others")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
