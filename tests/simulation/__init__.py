"""The commit protocol under schedules: every order of steps, loss, pause and crash is drawn from one seed.

Our code runs unchanged over a store in memory (:mod:`tests.simulation.tables`), in which each operation is a step. The
scheduler (:mod:`tests.simulation.scheduler`) lets one actor at a time take one; what goes wrong is in the plan
(:mod:`tests.simulation.plan`); actors are services, people and engines; what has to hold is in
:mod:`tests.simulation.judge`, written from the promise. ``python -m tests.simulation SEED`` runs one schedule again.
"""
