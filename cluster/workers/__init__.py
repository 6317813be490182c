"""The Ray half: rollout workers that come and go behind a collector, and several learners behind one."""
