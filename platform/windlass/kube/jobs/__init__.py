"""Jobs in a cluster: the pods of pipeline runs and of data tasks, and the RayJobs of trainers."""
