// Go's singleflight: uncontended calls, "cycle THREADS N KEYLEN"; prints nanoseconds a call.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	threads, n, length := number(os.Args[2]), number(os.Args[3]), 16
	response := make([]byte, 64)
	runtime.GOMAXPROCS(threads)
	var group singleflight.Group
	var all sync.WaitGroup
	keys := make([][]string, threads) // made before the clock starts, as in every contestant
	for thread := range keys {
		for i := 0; i < n; i++ {
			key := make([]byte, length)
			binary.LittleEndian.PutUint64(key, uint64(i))
			key[8] = byte(thread)
			keys[thread] = append(keys[thread], string(key))
		}
	}
	start := time.Now()
	for thread := 0; thread < threads; thread++ {
		all.Add(1)
		go func(keys []string) {
			defer all.Done()
			for _, key := range keys {
				group.Do(key, func() (interface{}, error) { return response, nil })
			}
		}(keys[thread])
	}
	all.Wait()
	fmt.Printf("%.2f\n", float64(time.Since(start).Nanoseconds())/float64(n*threads))
}
