# vgg19.py
import graphc as gc

layers, below = [], 3
for repeats, above in ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)):
    for _ in range(repeats):
        layers += [gc.nn.Conv2d(below, above, 3, padding=1), gc.nn.ReLU()]
        below = above
    layers += [gc.nn.MaxPool2d(2)]
layers += [gc.nn.Flatten(), gc.nn.Linear(7 * 7 * 512, 4096), gc.nn.ReLU(), gc.nn.Dropout(0.5)]
layers += [gc.nn.Linear(4096, 4096), gc.nn.ReLU(), gc.nn.Dropout(0.5), gc.nn.Linear(4096, 1000)]

model = gc.nn.Sequential(*layers)
x = gc.input("x", ("N", 3, 224, 224))
t = gc.input("t", ("N",), dtype="int64")
loss = gc.nn.cross_entropy(model(x), t)
