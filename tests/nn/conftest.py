"""What is collected: direct comparisons with PyTorch where it is installed, in the environment that `make bench` makes.
Elsewhere recorded values stand for it (`test_torch_values.py`)."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") is not None else ["test_against_torch.py"]
