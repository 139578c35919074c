"""Training and its diagnosis: `fit` and `Trainer`, checkpoints, `diagnose`, `trace_nan`.

    history = gc.fit(model, gc.nn.cross_entropy, (images, labels), optimiser=gc.optim.Adam(), epochs=10)
"""

from graphc.train.blame import NonFiniteLossError
from graphc.train.diagnosis import diagnose
from graphc.train.fitting import fit
from graphc.train.history import History
from graphc.train.nan import NanTrace, trace_nan
from graphc.train.report import Report
from graphc.train.trainer import Record, Trainer

__all__ = [
    "History",
    "NanTrace",
    "NonFiniteLossError",
    "Record",
    "Report",
    "Trainer",
    "diagnose",
    "fit",
    "trace_nan",
]
