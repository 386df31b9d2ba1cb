"""S3, REST catalogs and the opening of blobs, beneath the tables. Begin with :mod:`consumers.paimon.stores.s3`."""
