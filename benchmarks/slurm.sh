#!/usr/bin/env bash
# The farm on a real SLURM of this machine: two jobs, digits, four runs, two seeds; then by --adapt, by the
# farm of one machine, and by DVC alone.
# Needs Debian's slurmctld, slurmd, slurm-client and munge, root, and an activated environment.
# usage: benchmarks/slurm.sh > benchmarks/slurm.txt
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d /tmp/slurm-XXXXXX)
chmod 755 "$folder"
mkdir "$folder"/{state,spool,log}
head -c 1024 /dev/urandom > "$folder/key" && chmod 600 "$folder/key"
cat > "$folder/slurm.conf" <<END
ClusterName=one
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.sock
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=$(hostname -s) Default=YES MaxTime=INFINITE State=UP
END
down() {
  for name in slurmd slurmctld munge; do
    kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
    sleep 1
  done
  rm -rf "$folder"
}
trap down EXIT
export SLURM_CONF=$folder/slurm.conf
munged --force --key-file="$folder/key" --socket="$folder/munge.sock" \
  --pid-file="$folder/munge.pid" --log-file="$folder/log/munge" --seed-file="$folder/seed"
slurmctld
slurmd -N "$(hostname -s)"
until sinfo -h -o %t | grep -q idle; do sleep 0.5; done
sinfo --version

git clone -q "$root" "$folder/bench"
cd "$folder/bench"
python - <<END
from pathlib import Path
from ruamel.yaml import YAML
yaml, path = YAML(), Path("params.yaml")
params = yaml.load(path)
params["seeds"] = [0, 1]
params["runs"] = {name: params["runs"][name] for name in ("mlp", "combo", "cnn-untrained", "pca")}
yaml.dump(params, path)
END
git -c user.name=x -c user.email=x@example.org commit -qam "Four runs"
cat > "$folder/queue.yaml" <<END
jobqueue:
  slurm:
    queue: main
    cores: 1
    processes: 1
    memory: 1GB
    walltime: "00:20:00"
    interface: lo
    log-directory: $folder/log
    local-directory: $folder/spool
END
echo "\$ cat queue.yaml"
sed "s,$folder,FOLDER," "$folder/queue.yaml"
farm() {
  echo "\$ aebench farm --slurm queue.yaml $* --threads 1"
  : > "$folder/log/jobs"
  (while sleep 5; do squeue -h -o "%T %r" | sort | uniq -c | tr -s ' \n' ' '; done) > "$folder/log/jobs" &
  watch=$!
  start=$SECONDS
  aebench farm --slurm "$folder/queue.yaml" "$@" --threads 1
  echo "took $((SECONDS - start)) s"
  kill $watch
  echo "jobs, every 5 s: $(tr -s ' ' ' ' < "$folder/log/jobs")"
  echo "\$ dvc repro    # what is left to do"
  dvc repro 2>&1 | grep "^Running" || true
}
farm --workers 2
changed() {
  echo "\$ sed -i 's/^latent: $1/latent: $2/' params.yaml"
  sed -i "s/^latent: $1/latent: $2/" params.yaml
}
changed 32 16
farm --adapt 0:2
changed 16 24
echo "\$ aebench farm    # without SLURM"
start=$SECONDS
aebench farm | grep "came from"
echo "took $((SECONDS - start)) s"
changed 24 40
echo "\$ dvc repro    # without the farm"
start=$SECONDS
dvc repro > "$folder/log/dvc" 2>&1
echo "took $((SECONDS - start)) s, $(grep -c "^Running" "$folder/log/dvc") stages"
