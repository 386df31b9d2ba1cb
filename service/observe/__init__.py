"""What is known of consumers: activity, lag probes, events, telemetry. Begin with :mod:`service.observe.telemetry`."""
