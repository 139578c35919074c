"""What is collected. Each module of a peer imports its library when it is imported, and few environments have them all;
the peers' own tests are for the environment that `make bench` makes."""

from importlib.util import find_spec

collect_ignore_glob = ["programs/in_*.py"]
if find_spec("torch") is None:
    collect_ignore_glob.append("test_peers.py")
