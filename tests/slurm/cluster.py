"""A Slurm cluster of one node on this machine, with accounting: Debian's daemons, started by hand on loopback.

All their files are in one folder, and they end with the block. Needs root, and no service manager.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PACKAGES = {
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "slurmdbd": "slurmdbd",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sacct": "slurm-client",
}
# A node is told to be larger than this machine, so that what the profile asks for is granted as it stands.
SLURM = """
ClusterName=emolib
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmdPort={slurmd}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge.socket
AccountingStoreFlags=job_comment
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=128000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SLURMDBD = """
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadbd}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""


def install() -> None:
    """Return None once all daemons are installed, with apt-get where one is missing."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program, path=_path()) is None]
    if missing:
        quiet = dict(env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL, check=True)
        subprocess.run(["apt-get", "update", "-q"], **quiet)
        subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], **quiet)


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which sbatch, squeue, scancel and sacct reach the cluster.

    Raises RuntimeError, with the end of its log, when a daemon does not come up.
    """
    names = ("mariadbd", "slurmdbd", "slurmctld", "slurmd")
    host = socket.gethostname().partition(".")[0]
    settings = dict(folder=folder, host=host, cpus=os.cpu_count(), **dict(zip(names, _free_ports(4), strict=True)))
    for name, text in (("slurm.conf", SLURM), ("slurmdbd.conf", SLURMDBD)):
        (folder / name).write_text(text.format(**settings))
        (folder / name).chmod(0o600)
    (folder / "munge.key").write_bytes(os.urandom(1024))
    (folder / "munge.key").chmod(0o400)
    for name in ("state", "spool", "database", "bin"):
        (folder / name).mkdir()
    # Snakemake's plugin calls srun without the variable that says where the configuration is.
    srun, configuration = folder / "bin" / "srun", folder / "slurm.conf"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": f"{srun.parent}:{_path()}"}

    def answers(*command: str, text: str = "") -> bool:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        return done.returncode == 0 and text in done.stdout

    with ExitStack() as stack:

        def start(command: list[str], *probe: str, text: str = "") -> None:
            log = stack.enter_context((folder / f"{command[0]}.log").open("w"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(_stop, process)
            for _ in range(120):
                if answers(*probe, text=text):
                    return
                if process.poll() is not None:
                    break
                time.sleep(0.5)
            end = "\n".join(Path(log.name).read_text(errors="replace").splitlines()[-20:])
            raise RuntimeError(f"{command[0]} did not come up:\n{end}")

        keys = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        keyed = f"--socket={folder}/munge.socket"
        start(["munged", "--foreground", "--force", keyed, *keys], "munge", "--no-input", keyed)
        data = [f"--datadir={folder}/database", "--user=root"]
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", *data], env=environment, stdout=subprocess.DEVNULL, check=True
        )
        place = [f"--socket={folder}/mariadb.socket"]
        network = [f"--port={settings['mariadbd']}", "--bind-address=127.0.0.1", f"--pid-file={folder}/mariadbd.pid"]
        start(["mariadbd", "--no-defaults", *data, *place, *network], "mariadb-admin", *place, "ping")
        user = "CREATE DATABASE slurm; GRANT ALL ON slurm.* TO slurm@'127.0.0.1' IDENTIFIED BY 'slurm';"
        subprocess.run(["mariadb", *place, "-e", user], env=environment, check=True)
        start(["slurmdbd", "-D"], "sacctmgr", "-n", "list", "cluster")
        for known in (["cluster", "emolib"], ["account", "main"], ["user", "root", "account=main"]):
            subprocess.run(["sacctmgr", "-i", "add", *known], env=environment, stdout=subprocess.DEVNULL, check=True)
        start(["slurmctld", "-D"], "scontrol", "ping", text="is UP")
        start(["slurmd", "-D"], "sinfo", "--noheader", "--format=%T", text="idle")
        stack.callback(subprocess.run, ["scancel", "--user=root"], env=environment)
        yield environment


def _path() -> str:
    """The search path with the folders of system programs, which a user's may lack."""
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
