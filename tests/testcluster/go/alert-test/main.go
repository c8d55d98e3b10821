// alert-test checks alert rules against unit tests in the format of `promtool test rules`, and prints the differences.
// Of that format it knows what these tests use: input series, and the firing alerts at a time. It exists because promtool
// links every service discovery of Prometheus: 1,364 packages instead of 760.
//
// Usage: alert-test RULES TESTS
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

type testFile struct {
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []testCase     `yaml:"tests"`
}

type testCase struct {
	Name        string         `yaml:"name"`
	Interval    model.Duration `yaml:"interval"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	AlertRuleTests []expectation `yaml:"alert_rule_test"`
}

type expectation struct {
	EvalTime  model.Duration `yaml:"eval_time"`
	Alertname string         `yaml:"alertname"`
	ExpAlerts []struct {
		ExpLabels      map[string]string `yaml:"exp_labels"`
		ExpAnnotations map[string]string `yaml:"exp_annotations"`
	} `yaml:"exp_alerts"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: alert-test RULES TESTS")
		os.Exit(2)
	}
	differences, err := run(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	for _, each := range differences {
		fmt.Println(each)
	}
	if len(differences) > 0 {
		os.Exit(1)
	}
}

func run(ruleFile, testPath string) ([]string, error) {
	stream, err := os.Open(testPath)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	var file testFile
	decoder := yaml.NewDecoder(stream)
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("%s: %w", testPath, err)
	}
	var differences []string
	for _, test := range file.Tests {
		found, err := test.run(ruleFile, time.Duration(file.EvaluationInterval))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", test.Name, err)
		}
		differences = append(differences, found...)
	}
	return differences, nil
}

func (test testCase) run(ruleFile string, step time.Duration) ([]string, error) {
	var load strings.Builder
	fmt.Fprintf(&load, "load %v\n", test.Interval)
	for _, each := range test.InputSeries {
		fmt.Fprintf(&load, "  %s %s\n", each.Series, each.Values)
	}
	promql := parser.NewParser(parser.Options{})
	suite, err := promqltest.NewLazyLoader(load.String(), promqltest.LazyLoaderOpts{Parser: promql})
	if err != nil {
		return nil, err
	}
	defer suite.Close()
	suite.SubqueryInterval = step
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc:    rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage()),
		AppendableV2: suite.Storage(),
		Context:      context.Background(),
		NotifyFunc:   func(context.Context, string, ...*rules.Alert) {},
		Logger:       promslog.NewNopLogger(),
		Parser:       promql,
	})
	groups, errs := manager.LoadGroups(time.Duration(test.Interval), labels.EmptyLabels(), "", nil, false, ruleFile)
	if errs != nil {
		return nil, errs[0]
	}
	var last time.Duration
	for _, each := range test.AlertRuleTests {
		last = max(last, time.Duration(each.EvalTime))
	}
	var differences []string
	for passed := time.Duration(0); passed <= last; passed += step {
		now := time.Unix(0, 0).UTC().Add(passed)
		var failure error
		suite.WithSamplesTill(now, func(err error) {
			failure = err
			for _, group := range groups {
				group.Eval(suite.Context(), now)
				for _, rule := range group.Rules() {
					if rule.LastError() != nil {
						failure = fmt.Errorf("%s at %v: %w", rule.Name(), passed, rule.LastError())
					}
				}
			}
		})
		if failure != nil {
			return nil, failure
		}
		for _, each := range test.AlertRuleTests {
			if time.Duration(each.EvalTime) != passed {
				continue
			}
			wanted, got := each.wanted(), firing(groups, each.Alertname)
			if !slices.Equal(wanted, got) {
				differences = append(differences, fmt.Sprintf("%s: %s at %v\n  expected: %s\n  got:      %s",
					test.Name, each.Alertname, passed, strings.Join(wanted, "\n            "), strings.Join(got, "\n            ")))
			}
		}
	}
	return differences, nil
}

func (expected expectation) wanted() []string {
	alerts := []string{}
	for _, each := range expected.ExpAlerts {
		shown := map[string]string{labels.AlertName: expected.Alertname}
		for name, value := range each.ExpLabels {
			shown[name] = value
		}
		alerts = append(alerts, labels.FromMap(shown).String()+" "+labels.FromMap(each.ExpAnnotations).String())
	}
	slices.Sort(alerts)
	return alerts
}

func firing(groups map[string]*rules.Group, name string) []string {
	alerts := []string{}
	for _, group := range groups {
		for _, rule := range group.Rules() {
			alerting, ok := rule.(*rules.AlertingRule)
			if !ok || alerting.Name() != name {
				continue
			}
			for _, each := range alerting.ActiveAlerts() {
				if each.State == rules.StateFiring {
					alerts = append(alerts, each.Labels.String()+" "+each.Annotations.String())
				}
			}
		}
	}
	slices.Sort(alerts)
	return alerts
}
