"""Services on loopback that a test may reach in place of the real: buckets, hubs, an index, prices, rights and quotas."""
