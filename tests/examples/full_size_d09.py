"""The figures of D9 in full: the packaged digits with five seeds, and MNIST. `make mnist MNIST=FOLDER` runs this file,
and no other command does: it takes a minute.

MNIST is read from the folder that GRAPHC_TEST_MNIST names.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.examples.support import load
from tests.examples.test_d07_to_d12 import mean_share, run_as_shown

pytestmark = [pytest.mark.feature("D9"), pytest.mark.slow]

MNIST = os.environ.get("GRAPHC_TEST_MNIST")


def test_the_convolutional_net_reads_98_5_percent_as_the_mean_of_five_seeds():
    assert mean_share(run_as_shown("D9"), seeds=[0, 1, 2, 3, 4]) >= 0.985


# The files are not in the repository, and 11 MB more than most want to download for a test.
@pytest.mark.skipif(not MNIST, reason="GRAPHC_TEST_MNIST names no folder with MNIST's files: make mnist MNIST=FOLDER")
def test_mnist_is_read_to_99_percent_in_one_run():
    results = load("D9").main(["--mnist", MNIST])
    assert len(results[0]["labels"]) == 10_000
    assert np.mean(results[0]["guesses"] == results[0]["labels"]) >= 0.99
