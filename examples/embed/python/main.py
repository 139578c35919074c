"""Reads one digit, 64 float32 numbers in a file, with the exported classifier: without graphc, and without NumPy.

python main.py FOLDER FILE: the folder has digits.py and libdigits.so.
"""

import array
import sys

if len(sys.argv) != 3:
    sys.exit("usage: main.py FOLDER FILE (of 64 float32 numbers)")
sys.path.insert(0, sys.argv[1])

import digits

image = array.array("f")
with open(sys.argv[2], "rb") as file:
    image.frombytes(file.read())
digits.selftest()
probabilities, digit = digits.run(image)
print(f"this is a {digit[0]} (probability {probabilities[0, digit[0]]:.3f})")
