import sys

squares = {i: i * i for i in range(1000)}
print(sum(squares.values()), sorted(map(str, range(20)))[:9], 2**200, 1 / 3, "é".encode(), sys.maxsize > 2**32)
print(sys.argv)
with open("o.txt", "w") as file:  # noqa: PTH123  # pathlib is slow to start
    file.write("hi" * 500)
raise SystemExit(4)
