-- Prints wrk's summary as one line of JSON. Latencies come in microseconds.
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"rate":%.1f,"p50Ms":%.4f,"p99Ms":%.4f,"errors":%d}\n',
    summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    e.connect + e.read + e.write + e.status + e.timeout))
end
