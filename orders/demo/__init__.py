"""The main job on one machine, without any server to install; started by ``manage.py demo``."""
