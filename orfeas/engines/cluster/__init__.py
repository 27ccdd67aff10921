"""Many machines: any engine, run by Ray Serve workers, one GPU each, and called from a Gradio process outside Serve.

    worker.py     in the cluster: a worker holds one engine, does one job at a time, and stops it when told to
    client.py     in the app: an `orfeas.engines.Engine` that asks the workers
    __main__.py   ``python -m orfeas.engines.cluster deploy``: starts the workers

Needs ``requirements-cluster.txt``; nothing here is imported unless ``ORFEAS_ENGINE=ray`` asks for it. How to run it is
in ``deploy/cluster/README.md``.
"""
