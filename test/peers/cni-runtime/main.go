// A container runtime's view of CNI plugins: one call of libcni, as described on standard input, inside the namespace
// this process is in. What became of it is one JSON object on standard output, failures included; the exit code is 0
// unless the question itself makes no sense.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
)

type question struct {
	// add, del, check, gc, status, validate, versions, cached or attachments
	Call        string          `json:"call"`
	List        json.RawMessage `json:"list"`
	Plugin      string          `json:"plugin"`
	PluginPath  []string        `json:"pluginPath"`
	CacheFolder string          `json:"cacheFolder"`
	ContainerID string          `json:"containerId"`
	NetNS       string          `json:"netns"`
	IfName      string          `json:"ifName"`
	Args        [][2]string     `json:"args"`
	// For gc. Absent: the runtime has no list to give.
	Valid     *[]types.GCAttachment `json:"valid"`
	TimeoutMs int                   `json:"timeoutMs"`
}

type answer struct {
	Result      json.RawMessage `json:"result,omitempty"`
	Versions    []string        `json:"versions,omitempty"`
	Attachments []string        `json:"attachments,omitempty"`
	Executions  []execution     `json:"executions"`
	Error       *failure        `json:"error,omitempty"`
}

// One start of a plugin, delegates of plugins not among them.
type execution struct {
	Plugin  string          `json:"plugin"`
	Command string          `json:"command"`
	Input   json.RawMessage `json:"input,omitempty"`
	// What a plugin that succeeded printed.
	Output json.RawMessage `json:"output,omitempty"`
}

type failure struct {
	// 0 when no plugin said it.
	Code    uint   `json:"code"`
	Message string `json:"message"`
	Details string `json:"details,omitempty"`
	// What a runtime would log.
	Text string `json:"text"`
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, "the question cannot be read:", err)
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(asked.TimeoutMs)*time.Millisecond)
	defer cancel()
	recorder := &recorder{DefaultExec: &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}}}
	found, err := ask(ctx, asked, recorder)
	found.Executions = recorder.executions
	if err != nil {
		found.Error = describe(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		os.Exit(2)
	}
}

// Starts plugins as libcni does, and remembers it.
type recorder struct {
	*invoke.DefaultExec
	executions []execution
}

func (r *recorder) ExecPlugin(ctx context.Context, path string, input []byte, environ []string) ([]byte, error) {
	started := execution{Plugin: filepath.Base(path), Input: input}
	for _, variable := range environ {
		if command, found := strings.CutPrefix(variable, "CNI_COMMAND="); found {
			started.Command = command
		}
	}
	output, err := r.DefaultExec.ExecPlugin(ctx, path, input, environ)
	started.Output = output
	r.executions = append(r.executions, started)
	return output, err
}

func ask(ctx context.Context, asked question, exec invoke.Exec) (answer, error) {
	cni := libcni.NewCNIConfigWithCacheDir(asked.PluginPath, asked.CacheFolder, exec)
	switch asked.Call {
	case "versions":
		info, err := cni.GetVersionInfo(ctx, asked.Plugin)
		if err != nil {
			return answer{}, err
		}
		return answer{Versions: info.SupportedVersions()}, nil
	case "attachments":
		found, err := cni.GetCachedAttachments("")
		names := []string{}
		for _, attachment := range found {
			names = append(names, attachment.ContainerID+" "+attachment.IfName)
		}
		return answer{Attachments: names}, err
	}
	list, err := libcni.ConfListFromBytes(asked.List)
	if err != nil {
		return answer{}, err
	}
	container := &libcni.RuntimeConf{
		ContainerID: asked.ContainerID, NetNS: asked.NetNS, IfName: asked.IfName, Args: asked.Args,
	}
	switch asked.Call {
	case "add":
		result, err := cni.AddNetworkList(ctx, list, container)
		return withResult(result, err)
	case "cached":
		result, err := cni.GetNetworkListCachedResult(list, container)
		return withResult(result, err)
	case "check":
		return answer{}, cni.CheckNetworkList(ctx, list, container)
	case "del":
		return answer{}, cni.DelNetworkList(ctx, list, container)
	case "status":
		return answer{}, cni.GetStatusNetworkList(ctx, list)
	case "gc":
		if asked.Valid == nil {
			return answer{}, cni.GCNetworkList(ctx, list, nil)
		}
		return answer{}, cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: *asked.Valid})
	case "validate":
		_, err := cni.ValidateNetworkList(ctx, list)
		return answer{}, err
	}
	return answer{}, fmt.Errorf("no such call: %q", asked.Call)
}

func withResult(result types.Result, err error) (answer, error) {
	if err != nil || result == nil {
		return answer{}, err
	}
	text, err := json.Marshal(result)
	return answer{Result: text}, err
}

func describe(err error) *failure {
	var told *types.Error
	if errors.As(err, &told) {
		return &failure{Code: told.Code, Message: told.Msg, Details: told.Details, Text: err.Error()}
	}
	return &failure{Text: err.Error()}
}
