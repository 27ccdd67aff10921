import os

# Before anything loads OpenMP: where several tests run at once, its threads spin for one another on the cores that the
# others need, and the small networks of the tests take three times as long.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
