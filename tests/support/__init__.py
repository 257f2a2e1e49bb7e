"""What several test folders share: real servers, browsers, faults."""
