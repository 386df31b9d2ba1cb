"""Consumers in this process: started, supervised, drained, divided. Begin with :mod:`service.host.hosting`."""
