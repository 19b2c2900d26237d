module restate-pubsub/tests/kubernetes/pause

go 1.26.8
