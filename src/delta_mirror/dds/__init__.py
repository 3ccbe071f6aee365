"""Everything that knows the DDS, the change-data service of the salon software Meevo."""
