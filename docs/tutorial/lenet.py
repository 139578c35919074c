# lenet.py
import graphc as gc


class Stage(gc.nn.Module):
    def __init__(self, below, above, seed):
        self.conv = gc.nn.Conv2d(below, above, 5, padding=2, seed=seed)
        self.norm = gc.nn.BatchNorm2d(above)

    def forward(self, x):
        return gc.max_pool2d(gc.relu(self.norm(self.conv(x))), 2)


class LeNet(gc.nn.Module):
    def __init__(self, seed):
        self.stage1 = Stage(1, 16, (seed, 0))
        self.stage2 = Stage(16, 32, (seed, 1))
        self.dropout = gc.nn.Dropout(0.5, seed=(seed, 2))
        self.dense1 = gc.nn.Linear(128, 120, seed=(seed, 3))
        self.dense2 = gc.nn.Linear(120, 84, seed=(seed, 4))
        self.dense3 = gc.nn.Linear(84, 10, seed=(seed, 5))

    def forward(self, images):
        features = gc.flatten(self.stage2(self.stage1(images)), 1)
        hidden = gc.relu(self.dense1(self.dropout(features)))
        return self.dense3(gc.relu(self.dense2(hidden)))


model = LeNet(seed=1)
x = gc.input("x", ("N", 1, 8, 8))
t = gc.input("t", ("N",), dtype="int64")
scores = model(x).named("scores")
loss = gc.nn.cross_entropy(scores, t)
