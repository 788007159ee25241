"""Simulation: sample data, partitions and backends that stay at home and never travel to a silo."""
