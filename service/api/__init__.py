"""The control plane: REST and the page; the only place of FastAPI. Knows ports and the library, no engine.

Begin with :mod:`service.api.app`; who may do what is in :mod:`service.api.security`.
"""
