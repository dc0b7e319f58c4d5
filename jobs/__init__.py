"""Composition only: the `curate` command, one short module a job."""
