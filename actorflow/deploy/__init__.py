"""Apps as data, deployed to a host that runs: kept in versions, with their modules by content."""
