"""A run as one rank among several: what the classes beside this folder do differently then.

=============  =====================================================================================
`parts`        the classes that such a run is made of
`sharded`      the same with FSDP2
`source`       its share of the data, as many turns as the others have
`begun`        the order of an epoch that another number of processes has begun
`loop`         what the ranks say to each other once an update: amounts, signals, who wants to stop
`stepper`      loss weights and gradients over all ranks
`values`       losses and logged values over all ranks
`lifecycle`    a common beginning, common decisions to save
`folder`       the first rank's folder, seen from every rank
`signals`      heard by one, obeyed by all
`states`       every rank's own state inside one checkpoint
=============  =====================================================================================

Imported only where there are several ranks; `source` also where there were.
"""
