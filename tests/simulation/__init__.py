"""A deterministic simulator of the reliable room: many real sessions, one virtual clock.

    world      the clock, the members and the network between them
    oracle     what must hold: safety at every moment, bounds on the wire, healing in time
    forgery    datagrams made by hand, for strangers who follow no rule
    room       one cell of the table of figures: a steady room, and what a message costs in it
    swarm      one seed, one bad day: every fault drawn at random, then the network heals
    figures    the whole table, and the plot

`python3 -m tests.simulation --help` says how to run it.
"""
