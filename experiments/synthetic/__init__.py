"""Synthetic patients: generators compared, judged against real patients that none of them saw."""
