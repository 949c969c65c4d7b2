"""A base in 4 bits on the disk: packed there shard by shard, and taken from there only as it was packed.

`index` says what a packed folder holds, from which base, and whether it still does; `shards` packs one file of weights, and
`folder` all of them: cut off, it goes on where it was.
"""
