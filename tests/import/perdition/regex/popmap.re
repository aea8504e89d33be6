# shell customers first
^(.*)@shell\.example\.net$: $1@shell.example.net
^postmaster$: root@10.0.0.9:1143
^[a-c]: 10.0.0.5
^(d|e): 10.0.0.6
^[^a-k]: localhost:110
