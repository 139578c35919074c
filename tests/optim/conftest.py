"""What is collected: the direct comparison with PyTorch only where that is installed; recorded values do elsewhere."""

from importlib.util import find_spec

collect_ignore = ["in_torch.py"]
if find_spec("torch") is None:
    collect_ignore.append("test_torch.py")
