"""A Ray cluster of three nodes on this machine, told over stdin which to lose."""

import sys

from ray.cluster_utils import Cluster


def main():
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    for line in sys.stdin:
        answer = ""
        if line.strip() == "address":
            answer = cluster.address
        elif line.strip() == "replace":
            cluster.remove_node(workers.pop(0), allow_graceful=False)
            workers.append(cluster.add_node(num_cpus=1))
        sys.stdout.write(f"ok {answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
