"""The rows of docs/features.md: what users of the field must be able to express, each shown by tests.

A test says what it shows with `@pytest.mark.feature("B.prelu")`; parametrised tests mark their parameters, with
`shows` or `of_name`. `table.py` makes the page of what was collected, `tools/features.py` runs it (`make features`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest

SECTIONS = {
    "A": "Calculus on graphs",
    "B": "Functions",
    "C": "Layers",
    "D": "Models",
    "E": "Training",
    "F": "Diagnosis",
}

TEXT = """
A1: the gate graph (x+y)z: values and gradients, and both on the edges of its drawing
A2: the sigmoid neuron, of gates and as one node with slope (1-s)s; the two become one graph
A3: gate patterns: add distributes, mul swaps, copy adds up, max routes
A4: b3+w3 cos(b2+w2 exp(b1+w1 sin(b0+w0 x))): all eight derivatives, with five calls of functions in all
A5: the forward pass and both backward passes, as numbers, as numbered equations and as flat code with grad_ names
A6: the chain rule along t, through exp(x1 x2^2) with x1 = t cos t, x2 = t sin t
A7: several variables: two paths, gradient, Jacobian, Hessian, vjp, jvp, Hessian-vector product
A8: backward functions of a matrix product, of activations and of losses
A9: finite differences and the complex step for users; gradients are orthogonal to level lines
A10: W2(W1 x) = (W2 W1)x: the cheapest order of a chain of matrices, constants folded
A11: batches as rows (x @ W + b) and as columns (W X + b) give the same

B.sigmoid: sigmoid
B.tanh: tanh
B.relu: ReLU
B.leaky_relu: leaky ReLU with slopes 0.01 and 0.1
B.prelu: PReLU, with a gradient into alpha
B.elu: ELU
B.maxout: maxout, max(w1 x + b1, w2 x + b2)
B.gelu: GELU by erf and by tanh
B.softplus: softplus
B.softmax: softmax
B.log_softmax: log-softmax
B.hard: hard squashers: hard sigmoid, hard tanh, hard swish, ReLU6
B.sin: sin
B.cos: cos
B.exp: exp
B.squared_error: squared error: half of the sum, mean, sum
B.l2: L2 distance |p - t|, and its square
B.bce_logits: binary cross-entropy from logits
B.bce_probabilities: binary cross-entropy from probabilities
B.cross_entropy: softmax cross-entropy from logits; its gradient is p - e_y
B.hinge: multiclass hinge, as the sum over the wrong classes and divided by the number of classes
B.kl_div: Kullback-Leibler divergence; minimising it over p is maximum likelihood
B.gaussian_nll: Gaussian negative log-likelihood, with gradients into mean and variance
B.l1_penalty: penalty lambda sum |w|
B.l2_penalty: penalty lambda sum w^2
B.broadcasting: NumPy's broadcasting; gradients add up where a value was stretched
B.sum: sum over axes
B.mean: mean over axes
B.var: variance over axes
B.max: greatest value over axes
B.min: least value over axes
B.prod: product over axes
B.argmax: position of the greatest value along an axis
B.matmul: matrix products, batched and with vectors
B.einsum: Einstein's summation
B.transpose: transpose and other orders of axes
B.reshape: reshape, flatten
B.concatenate: concatenate
B.stack: stack
B.split: split into equal parts and at positions
B.slices: indices, slices, strides and steps backwards
B.pad: pad
B.where: where
B.comparisons: comparisons
B.clip: clip at one end and at both
B.one_hot: one-hot vectors of labels
B.take: take, as in the lookup of an embedding; gradients of equal indices add up
B.cumsum: cumulative sum

C.linear: Linear
C.conv1d: 1-D convolution: channels, stride, zero padding or "valid", dilation, groups
C.conv2d: 2-D convolution: channels, stride, zero padding or "valid", dilation, groups
C.banded: a kernel of size three is a banded dense layer
C.conv_transpose: transposed convolution is the transpose of convolution
C.max_pool: max pooling
C.avg_pool: average pooling
C.global_pool: global pooling
C.batch_norm: batch normalisation by the batch in training, by running statistics afterwards
C.layer_norm: layer normalisation
C.dropout: dropout with the same mask on every backend and number of threads
C.embedding: embedding
C.residual: the residual block z + sigma(W2 sigma(W1 z + b1) + b2)
C.resnet_s: ResNet-S: residual blocks one after another
C.dense_connection: dense connections, which concatenate
C.recurrent: recurrent cells, unrolled and as a loop
C.graph: message passing with an adjacency matrix
C.attention: multi-head attention
C.shapes: output shapes of any stack are known before it runs
C.parameters: parameter counts: 13 for 2 inputs, 3 hidden units and 1 output
C.receptive_field: receptive fields: two layers of size three see five
C.operations: operation counts: the backward function of a product costs as much as the product
C.huge: a layer of over 22 billion weights is counted without allocating it
C.symbols: the convolution of a 3x3 by a 2x2 array of symbols prints four sums
C.best_patch: the patch that maximises w.x at fixed norm is a multiple of w

D1: linear regression with feature maps: gradient descent stops on the answer of the normal equations
D2: logistic and softmax regression reach the optimum of a convex solver
D3: the shallow ReLU net: at most D joints, at most so many regions, a better fit as D grows
D4: the housing net: structured connections, 12 parameters
D5: polar features separate a circle in a circle
D6: the Gabor model: gradient descent sticks in a local minimum that SGD leaves
D7: the MLP with K layers reads digits: 97% on a held-out fifth, mean of five seeds
D8: edge filters: a shifted input shifts the output
D9: the LeNet-like CNN reads digits: 98.5%; as the mean of five seeds, and MNIST to 99%: `make mnist`
D10: AlexNet, VGG-19, GoogLeNet, ResNet-18 and a DenseNet block: exact parameter counts, forward and training step; \
at full size: `make test-models`
D11: the recurrent net: early gradients shrink or grow with the spectral radius; clipping bounds them
D12: a graph net and an attention block, each trained on a small task

E.gradient_descent: gradient descent
E.sgd: stochastic gradient descent
E.minibatches: mini-batches without replacement, shuffled anew in each epoch
E.momentum: momentum
E.nesterov: Nesterov's momentum
E.rmsprop: RMSprop
E.adam: Adam
E.adamw: AdamW
E.step: step schedule
E.exponential: exponential schedule
E.cosine: cosine schedule
E.warmup: warm-up
E.clip_norm: clipping by norm
E.clip_value: clipping by value
E.weight_decay: weight decay
E.l1: training with an L1 penalty
E.dropout: training with dropout
E.early_stopping: early stopping, with the best weights kept
E.zeros: initialiser zeros
E.normal: initialiser normal(sigma)
E.xavier: initialiser of Xavier
E.he: initialiser of He
E.orthogonal: initialiser orthogonal
E.seeds: seeds fix the first values
E.progress: a progress bar
E.history: a history that can be plotted
E.checkpoints: checkpoints that survive an interruption at any moment
E.resumption: a run that was interrupted goes on bit for bit

F.magnitudes: magnitudes of activations and gradients of each layer
F.vanishing: vanishing gradients, where sigma is too small
F.exploding: exploding gradients, where sigma is too large
F.dead: dead ReLUs
F.saturated: saturated sigmoids
F.nan: the first node that gave NaN or infinity, with its line
F.time: time of each kernel
F.memory: memory of each kernel
"""


@dataclass(frozen=True)
class Row:
    """id: "B.prelu"; its first letter is the section."""

    id: str
    what: str

    @property
    def section(self) -> str:
        return self.id[0]


ROWS = tuple(Row(*line.split(": ", 1)) for line in TEXT.splitlines() if line)
IDS = frozenset(row.id for row in ROWS)


def shows(value: Any, rows: Iterable[str], **options: Any) -> Any:
    """A parameter of a parametrised test that shows these rows; without rows, a parameter like any other."""
    given = tuple(rows)
    return pytest.param(value, marks=pytest.mark.feature(*given) if given else (), **options)


def of_name(value: str) -> Any:
    """The name of an op as a parameter that shows the row of that name, if there is one: "matmul of a vector" shows
    B.matmul."""
    return shows(value, sorted({f"{section}.{value.split()[0]}" for section in "BC"} & IDS))
