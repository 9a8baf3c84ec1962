"""For whoever runs the service: doctor, reloading, draining."""
