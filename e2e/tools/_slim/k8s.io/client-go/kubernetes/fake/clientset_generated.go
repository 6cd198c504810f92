// Package fake is left out: nothing that runs makes a fake clientset.
package fake

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/testing"
)

type Clientset struct{ kubernetes.Interface }

func (Clientset) Tracker() testing.ObjectTracker { panic("left out") }

func NewClientset(...runtime.Object) *Clientset { panic("left out") }

func NewSimpleClientset(...runtime.Object) *Clientset { panic("left out") }
