"""What an augmentation takes of memory: the input, the output, and little besides."""

import subprocess
import sys
from pathlib import Path

import pytest

# Of input and output together: the aim that the project set itself.
MOST = 2.2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux")
@pytest.mark.parametrize("executor", ["torch", "cpu"])
def test_little_memory_is_taken_besides_input_and_output(executor: str) -> None:
    script = Path(__file__).parents[1] / "support" / "peak_memory.py"
    run = subprocess.run([sys.executable, script, executor], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = dict(line.split() for line in run.stdout.splitlines())
    assert set(found) == {"reference", "chain"}
    for name, multiple in found.items():
        assert 0.5 < float(multiple) < MOST, name
