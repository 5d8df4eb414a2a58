"""Real servers for tests, each private: own configuration, own folder, own free loopback ports."""
